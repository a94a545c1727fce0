"""Everything that knows a generator: StyleGAN2, its training, and FewShotCNN on its features."""
