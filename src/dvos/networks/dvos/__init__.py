"""The compact video network: shared image encoder, fusion over time, light decoder."""
