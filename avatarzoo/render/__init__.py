"""Rasterisers of meshes and Gaussians, shading, volume rendering."""

from avatarzoo.render.gaussians import GaussianImage as GaussianImage
from avatarzoo.render.gaussians import Gaussians as Gaussians
from avatarzoo.render.mesh import MeshFragments as MeshFragments
from avatarzoo.render.mesh import coverage as coverage
from avatarzoo.render.mesh import interpolate as interpolate
from avatarzoo.render.mesh import pick_mesh as pick_mesh
from avatarzoo.render.mesh import rasterize_mesh as rasterize_mesh
from avatarzoo.render.mesh import rasterize_projected as rasterize_projected
from avatarzoo.render.mesh import texture_lookup as texture_lookup
from avatarzoo.render.shading import shade_mesh as shade_mesh
from avatarzoo.render.splatting import rasterize_gaussians as rasterize_gaussians
