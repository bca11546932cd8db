"""Errors a user can cause. Each message is one sentence that names the way out."""

from __future__ import annotations


class AvatarZooError(Exception):
    """Base of every error that the command line prints as one sentence instead of a traceback."""


class MissingAssetError(AvatarZooError):
    """A weight or licensed file is not on this machine; the message says where to get it and where to put it."""


class MissingExtraError(AvatarZooError):
    """An optional package is not installed; the message names the extra."""


class NoFaceError(AvatarZooError):
    """No face, or more than one, where exactly one person is expected."""


class BadVideoError(AvatarZooError):
    """A file cannot be read as a video, or holds too little of it."""


class HeadModelMismatchError(AvatarZooError):
    """Parameters fitted with one head model were loaded into another."""


class UnsafeCheckpointError(AvatarZooError):
    """A pickle asks for code outside the allow-list; nothing of it was executed."""


class BadCheckpointError(AvatarZooError):
    """A checkpoint is damaged, or does not hold the network it is meant for."""


class NonFiniteLossError(AvatarZooError):
    """A loss is nan or infinite; the message says where the batch lies that caused it."""


class LostWorkerError(AvatarZooError):
    """A process that reads data for a training was killed."""


class BadSequenceError(AvatarZooError):
    """A tracked-sequence folder is missing, incomplete or of an unknown format version."""


class BadDatasetError(AvatarZooError):
    """A folder is not the data set it was given as, or its annotation files cannot be read."""


class BadResultError(AvatarZooError):
    """A result file cannot be read, has another format version, or breaks the schema."""


class OutputError(AvatarZooError):
    """An output folder or file cannot be written."""


class CredentialsError(AvatarZooError):
    """A file cannot be given content credentials here; it is not written without them unless one says so."""


class ConsentError(AvatarZooError):
    """A real person's avatar was asked for without a statement that the person agreed."""


class UsageError(AvatarZooError):
    """An option of the command line does not exist or has a value it cannot take."""
