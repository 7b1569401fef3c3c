"""gradcut turns any image classifier into a segmenter, with no segmentation training."""
