"""Files of pictures: what they may be called, what they hold, and writing them."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError
from zoo.files import check_folder_of, write_bytes

if TYPE_CHECKING:  # slow to import, and the doctor needs none of it
    from matplotlib.figure import Figure


PICTURES = ("jpg", "pdf", "png", "svg", "webp")  # endings of a picture's file


def save_figure(figure: "Figure", path: Path, kind: str) -> None:
    """Write a picture's file, and print where it lies.

    Raises:
        UsageError: it cannot be written.
    """
    content = figure_bytes(figure, kind)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UsageError(f"-o {path}: {error.strerror}; choose a file you may write") from None
    print(path)


def figure_bytes(figure: "Figure", kind: str) -> bytes:
    """What a picture's file holds: of the same figure the same, whenever it is drawn.

    A PDF has fonts of a kind that journals take.
    """
    import matplotlib

    content = BytesIO()
    metadata = {"CreationDate": None} if kind == "pdf" else None
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()


def check_picture_path(path: Path, kind: str) -> None:
    """Refuse a file that could not be written, before the images are opened.

    Raises:
        UsageError: it names a folder, lies in none, or has an ending that is no picture's.
    """
    if kind not in PICTURES:
        known = ", ".join(f".{ending}" for ending in PICTURES)
        raise UsageError(f"-o {path}: expected a picture's ending, one of {known}")
    check_folder_of(path, "-o")
    if path.is_dir():
        raise UsageError(f"-o {path}: that is a folder; name a file")
