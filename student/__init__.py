"""Everything that takes an image: the student network, its training, export and prediction."""
