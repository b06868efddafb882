"""Runs the notebooks in full and stores them with their pictures: python notebooks/run.py [01_quickstart …]"""

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient

HERE = Path(__file__).parent


def run(path):
    """Executes `path`, a notebook as a Python file, into the `.ipynb` beside it, but for progress bars and stderr."""
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": HERE}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            told = [output.text for output in cell.outputs if output.get("name") == "stderr"]
            print("".join(told), end="", file=sys.stderr)  # a warning is to be seen, and then to be mended
            cell.outputs = [output for output in cell.outputs if not _passing(output)]
    notebook.metadata.pop("widgets", None)
    jupytext.write(notebook, path.with_suffix(".ipynb"))


def _passing(output):
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


if __name__ == "__main__":
    for path in sorted(HERE.glob("[0-9]*.py")):
        if len(sys.argv) == 1 or path.stem in sys.argv[1:]:
            print(path.stem)
            run(path)
