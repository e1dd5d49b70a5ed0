"""Pre-training and fine-tuning on the HF `Trainer`."""
