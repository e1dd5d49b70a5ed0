"""Pre-training, fine-tuning, and joint training of all heads, on the HF `Trainer`."""
