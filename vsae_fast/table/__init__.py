"""Tables of any supported container, their schema, and the encoding that the model sees."""

from vsae_fast.table.schema import ColumnSchema, Schema

__all__ = ["ColumnSchema", "Schema"]
