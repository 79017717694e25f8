"""Executes notebooks in a clean kernel each and writes the outputs back.

usage: execute.py NOTEBOOK...
Prints one line of JSON per event on standard output; the command line makes it readable.
"""
import json
import os
import sys
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError


# The kernel inherits standard output, and Node makes a pipe non-blocking for all who hold it: keep it from the kernel.
events = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(**event):
    print(json.dumps(event), file=events, flush=True)


def strip(notebook):
    """Drops what differs from run to run without meaning anything."""
    notebook["nbformat_minor"] = 5  # the first in which cells have ids
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {"name": "kernel-lib", "display_name": "TypeScript (kernel-lib)", "language": "typescript"}
    notebook.metadata["language_info"] = {"name": "typescript", "mimetype": "text/typescript", "file_extension": ".ts", "pygments_lexer": "typescript",
                                          "codemirror_mode": {"name": "javascript", "mode": "typescript", "typescript": True}}
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index + 1}"
        for key in ("execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        outputs = []
        for output in cell.get("outputs", []):
            # Where a load that took long said how far it was, and then had nothing more to say.
            if output.output_type == "display_data" and output.data == {"text/plain": ""}:
                continue
            # One stream that came in pieces is one output.
            last = outputs[-1] if outputs else None
            if last and output.output_type == "stream" and last.output_type == "stream" and last.name == output.name:
                last["text"] += output.text
            else:
                outputs.append(output)
        if "outputs" in cell:
            cell["outputs"] = outputs


def execute(path):
    notebook = nbformat.read(path, as_version=4)
    begin = time.monotonic()
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    done = 0
    say(event="notebook", path=path, cells=cells)

    async def started(cell, cell_index, **_):
        nonlocal done
        done += 1
        say(event="cell", path=path, cell=done, cells=cells, seconds=time.monotonic() - begin)

    client = NotebookClient(notebook, timeout=600, kernel_name="kernel-lib", record_timing=False, store_widget_state=False,
                            resources={"metadata": {"path": os.path.dirname(os.path.abspath(path))}}, on_cell_execute=started)
    failure = None
    try:
        client.execute()
    except CellExecutionError as error:
        first = next(iter(str(error.evalue).splitlines()), "")
        failure = f"cell {done} failed: {error.ename}: {first}"
    except CellTimeoutError:
        failure = f"cell {done} took longer than 10 minutes"
    except DeadKernelError:
        failure = f"the kernel ended in cell {done}"
    strip(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path + ".new")
    os.replace(path + ".new", path)
    say(event="done", path=path, seconds=time.monotonic() - begin, failure=failure)
    return failure is None


def main():
    paths = sys.argv[1:]
    sys.exit(0 if all([execute(path) for path in paths]) else 1)


main()
