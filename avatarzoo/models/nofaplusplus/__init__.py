"""NOFA++ (Yu et al.): one picture to an animatable tri-plane head; its networks, without training so far."""
