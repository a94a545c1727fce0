"""`python -m student.predict`: an exported student on images and videos, where there is no PyTorch."""
