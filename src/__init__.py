"""EmoNet-FER: train, compare and explain EmoNet models of facial expressions."""
