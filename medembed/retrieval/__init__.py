"""What curate and mine share: texts → embeddings, and the nearest of them."""
