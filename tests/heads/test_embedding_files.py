"""Landmark embeddings on disk."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.errors import HeadModelMismatchError, MissingAssetError, OutputError
from avatarzoo.heads import FLAME, LandmarkEmbedding
from avatarzoo.heads.embedding_files import embedding_file_name, save_embedding


@pytest.fixture
def head(flame_file):
    return FLAME(str(flame_file))


def embedding(head):
    generator = torch.manual_seed(0)
    weights = torch.rand(478, 3, generator=generator)
    return LandmarkEmbedding(
        torch.randint(len(head.faces), (478,), generator=generator), weights / weights.sum(1, keepdim=True)
    )


def test_missing_embedding_names_the_command(head):
    with pytest.raises(MissingAssetError, match="avatarzoo embed --head flame"):
        head.landmarks()


def test_round_trip_and_renewal(head):
    first = embedding(head)
    path = save_embedding(head, first)
    assert path.name == embedding_file_name(head) == f"flame-{head.source_hash[:8]}.npz"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert torch.equal(head.landmarks().faces, first.faces)
    assert torch.equal(head.landmarks().barycentrics, first.barycentrics)
    vertices = head(head.zeros())
    expected = torch.einsum("lc,lck->lk", first.barycentrics, vertices[0][head.faces[first.faces]])
    torch.testing.assert_close(head.landmark_points(vertices)[0], expected)
    save_embedding(head, LandmarkEmbedding(first.faces.flip(0), first.barycentrics))
    assert torch.equal(head.landmarks().faces, first.faces.flip(0))


def test_triangles_are_found_again_under_another_numbering(head):
    first = embedding(head)
    save_embedding(head, first)
    corners = head.faces[first.faces]
    head.faces = head.faces.flip(0)
    assert torch.equal(head.faces[head.landmarks().faces], corners)
    head.faces = head.faces[: len(head.faces) // 2]
    with pytest.raises(HeadModelMismatchError, match="not among the chosen faces"):
        head.landmarks()


def test_unwritable_folder_is_one_sentence(head, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_embedding(head, embedding(head), tmp_path / "file" / "folder")
