"""The second stage: predictions on unlabelled data as labels for the next training."""
