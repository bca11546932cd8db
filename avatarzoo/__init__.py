"""avatarzoo: one PyTorch Lightning framework for head avatars."""
