"""Tables, inputs and collators: HF Datasets in and out."""
