"""A page that runs an exported student in a browser."""
