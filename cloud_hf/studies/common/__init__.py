"""What all studies share: flags, the folder that goes on, crystals, trainings, errors, reports, published results."""
