"""Runs the notebooks in full and stores them with their pictures: python notebooks/run.py [01_quickstart …]"""

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient

HERE = Path(__file__).parent


def run(path):
    """Executes `path`, a notebook as a Python file, into the `.ipynb` beside it, without what went to stderr."""
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": HERE}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    jupytext.write(notebook, path.with_suffix(".ipynb"))


if __name__ == "__main__":
    for path in sorted(HERE.glob("[0-9]*.py")):
        if len(sys.argv) == 1 or path.stem in sys.argv[1:]:
            print(path.stem)
            run(path)
