"""InvertAvatar (Zhao et al. 2024): few pictures, incremental, animatable; see README.md."""
