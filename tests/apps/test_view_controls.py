"""Sliders: names, what they move, and that a neutral page changes nothing."""

from __future__ import annotations

import pytest
import torch

from avatarzoo.apps.view_controls import FOLDERS, changed, controls_of, side_of
from avatarzoo.geometry.rotations import axis_angle_to_matrix, matrix_to_euler
from avatarzoo.heads import load_head


@pytest.fixture(scope="module")
def head():
    return load_head("procedural")


@pytest.fixture(scope="module")
def controls(head):
    return {c.key: c for c in controls_of(head)}


def test_sides_are_told_from_names():
    assert side_of("mouthSmile_L") == ("mouthSmile", " left")
    assert side_of("eyeBlinkRight") == ("eyeBlink", " right")
    assert side_of("mouthLeft") == ("mouthLeft", "")
    assert side_of("jawOpen") == ("jawOpen", "")


def test_a_handful_first_then_folders_people_understand(controls):
    keys = list(controls)
    top = [label for folder, label in keys if not folder]
    assert top == [
        "Open mouth", "Smile", "Kiss", "Close eyes", "Raise brows", "Look sideways", "Look up", "Turn head", "Raise head",
        "Tilt head",
    ]  # fmt: skip
    folders = list(dict.fromkeys(folder for folder, _ in keys if folder))
    assert folders[: len(FOLDERS)] == list(FOLDERS)
    assert "Other" not in folders
    assert ("Mouth", "Smile left") in controls
    assert controls["Mouth", "Smile left"].hint == "mouthSmile_L"
    assert {"Neck", "Each eye", "Place"} <= set(folders)


def test_every_expression_of_the_head_has_its_own_slider(head, controls):
    own = [c for c in controls.values() if c.folder and c.changes[0].field == "expression"]
    assert sorted(c.changes[0].column for c in own) == list(range(head.n_expression))
    assert len({c.key for c in own}) == len(own)


def test_nothing_moved_changes_nothing(head, controls):
    rest = head.zeros(1)
    rest.expression[0, 3] = 0.2
    after = changed(rest, {}, controls.values(), head.expression_bounds)
    assert all((a == b).all() for a, b in zip(rest, after))


def test_each_slider_moves_the_head(head, controls):
    zeros = head.zeros(1)
    still = head(zeros)
    for control in controls.values():
        moved = head(changed(zeros, {control.key: control.high}, (control,), head.expression_bounds))
        assert (moved - still).abs().max() > 1e-4, control.label


def test_below_zero_comes_the_opposite_and_nothing_leaves_its_bounds(head, controls):
    names = head.expression_names
    smile = changed(head.zeros(1), {("", "Smile"): -0.7}, controls.values(), head.expression_bounds)
    assert smile.expression[0, names.index("mouthSmile_L")] == 0
    assert smile.expression[0, names.index("mouthFrown_R")] == pytest.approx(0.7)
    both = {("", "Open mouth"): 1.0, ("Jaw", "Open"): 1.0}
    wide = changed(head.zeros(1), both, controls.values(), head.expression_bounds)
    assert wide.expression[0, names.index("jawOpen")] == 1


def test_gaze_goes_where_its_name_says_and_lids_follow(head, controls):
    names = head.expression_names
    values = {("", "Look sideways"): 25.0, ("", "Look up"): 12.5}
    seen = changed(head.zeros(1), values, controls.values(), head.expression_bounds)
    for eye in (seen.eyes[:, :3], seen.eyes[:, 3:]):
        forward = axis_angle_to_matrix(eye)[0, :, 2]
        assert forward[0] > 0.3  # the subject's left is the picture's right
        assert forward[1] > 0.15
    assert seen.expression[0, names.index("eyeLookOut_L")] == pytest.approx(1.0, abs=1e-5)
    assert seen.expression[0, names.index("eyeLookIn_L")] == 0
    assert seen.expression[0, names.index("eyeLookUp_R")] == pytest.approx(0.5, abs=1e-5)


def test_the_head_turns_about_its_own_axes_on_top_of_its_pose(head, controls):
    rest = head.zeros(1)._replace(rotation=torch.tensor([[0.2, 0.0, 0.0]]))
    turned = changed(rest, {("", "Turn head"): 30.0}, controls.values(), head.expression_bounds)
    relative = axis_angle_to_matrix(rest.rotation).transpose(1, 2) @ axis_angle_to_matrix(turned.rotation)
    yaw, pitch, roll = (float(x.rad2deg()) for x in matrix_to_euler(relative))
    assert (yaw, pitch, roll) == pytest.approx((30, 0, 0), abs=1e-3)
    raised = changed(head.zeros(1), {("", "Raise head"): 20.0}, controls.values(), None)
    assert axis_angle_to_matrix(raised.rotation)[0, 1, 2] > 0.3  # the face points upwards


def test_sliders_of_other_head_models_are_passed_over(head, controls):
    other = {("Expressions 1 to 10", "Expression 3"): 2.0}
    after = changed(head.zeros(1), other, controls.values(), head.expression_bounds)
    assert not after.expression.any()


class Numbered(torch.nn.Module):
    """A head model without names or bounds, whose mouth only the jaw joint opens, and which has no eyes to turn."""

    n_identity, n_expression, expression_bounds = 2, 24, None
    expression_names = tuple(f"exp_{i:03d}" for i in range(24))
    v_template = torch.zeros(4, 3)

    def zeros(self, batch=1, device=None):
        return load_head("procedural").zeros(batch)._replace(expression=torch.zeros(batch, 24))

    def forward(self, params):
        if params.neck.any():
            raise ValueError("This head has no neck.")
        vertices = torch.zeros(1, 4, 3)
        vertices[:, 0] = params.jaw
        vertices[:, 1, :2] = params.eyelids
        return vertices


def test_heads_without_names_get_numbers_and_joints():
    keys = [c.key for c in controls_of(Numbered())]
    assert keys[:2] == [("", "Open mouth"), ("", "Close eyes")]
    assert ("", "Expression 1") in keys
    assert ("Expressions 21 to 24", "Expression 24") in keys
    folders = {folder for folder, _ in keys}
    assert "Jaw joint" in folders
    assert not {"Neck", "Each eye"} & folders
    assert ("", "Look up") not in keys
