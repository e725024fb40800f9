"""Reads the real tables that some tests use; their folder is not part of the project."""

import json

import pandas as pd


def read_real(folder, name):
    """Table with the column kinds of its schema.json: numbers as float64, levels as text."""
    schema = json.loads((folder / name / "schema.json").read_text())
    table = pd.read_csv(folder / name / schema["file"], dtype=str, keep_default_na=False, na_values=[""])
    for column in schema["columns"]:
        if column["kind"] == "numerical":
            table[column["name"]] = table[column["name"]].astype(float)
    return table


def mean_and_mode(table):
    """Simple imputation to compare with."""
    return table.fillna({name: column.mean() if column.dtype == float else column.mode()[0]
                         for name, column in table.items()})  # fmt: skip
