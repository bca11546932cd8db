"""On held-out people of a tiny prior: the encoder beats the average latent, the detail network beats the encoder."""

from __future__ import annotations

from pathlib import Path


def test_encoder_then_details_come_closer_to_held_out_people(make, fit, tmp_path: Path) -> None:
    steps = "s" * 60
    first = make(stage="1a", lr=3e-3, lambda_lpips=0, lambda_l2=0, lambda_depth=0, lambda_code=1.0)
    trainer = fit(first, 2 * steps, limit_val_batches=1)
    coarse = trainer.callback_metrics
    assert coarse["held_out/psnr_coarse"] > coarse["held_out/psnr_average"] + 0.3
    assert coarse["held_out/psnr_fine"] == coarse["held_out/psnr_coarse"]
    trainer.save_checkpoint(tmp_path / "1a.ckpt", weights_only=True)
    second = make(stage="1b", lr=1e-3, start=str(tmp_path / "1a.ckpt"))
    fine = fit(second, steps, limit_val_batches=1).callback_metrics
    assert fine["held_out/psnr_coarse"] == coarse["held_out/psnr_coarse"]
    assert fine["held_out/psnr_fine"] > fine["held_out/psnr_coarse"] + 0.1
