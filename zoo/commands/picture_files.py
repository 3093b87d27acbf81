"""Writes figures as picture files, and checks the paths they are to have."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError
from zoo.files import check_folder_of, write_bytes

if TYPE_CHECKING:  # slow to import, and the doctor does not need it
    from matplotlib.figure import Figure


PICTURES = ("jpg", "pdf", "png", "svg", "webp")  # endings of a picture's file


def save_figure(figure: "Figure", path: Path, ending: str) -> None:
    """Write a figure as a picture file, and print its path.

    Raises:
        UsageError: it cannot be written.
    """
    content = figure_bytes(figure, ending)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UsageError(f"-o {path}: {error.strerror}; choose a file you may write") from None
    print(path)


def figure_bytes(figure: "Figure", ending: str) -> bytes:
    """The content of a picture file; the same figure always gives the same bytes.

    A PDF embeds TrueType fonts, which journals accept.
    """
    import matplotlib

    content = BytesIO()
    metadata = {"CreationDate": None} if ending == "pdf" else None
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(content, format=ending, metadata=metadata)
    return content.getvalue()


def check_picture_path(path: Path, ending: str) -> None:
    """Refuse a path that could not be written, before the images are opened.

    Raises:
        UsageError: the path is a folder, its folder does not exist, or its ending is not that of a
            picture.
    """
    if ending not in PICTURES:
        endings = ", ".join(f".{allowed}" for allowed in PICTURES)
        raise UsageError(f"-o {path}: expected a picture's ending, one of {endings}")
    check_folder_of(path, "-o")
    if path.is_dir():
        raise UsageError(f"-o {path}: that is a folder; name a file")
