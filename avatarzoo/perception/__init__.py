"""Frozen networks that look at pictures: landmarks, mattes, parsing, perceptual features."""
