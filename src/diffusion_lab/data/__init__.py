"""From image files to batches: sources, the decoded cache, and the LightningDataModule."""
