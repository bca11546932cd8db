"""Pure tensor mathematics: rotations, cameras, meshes, UV maps, spherical harmonics, crops, similarity transforms."""
