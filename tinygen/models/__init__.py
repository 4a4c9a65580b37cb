"""One file for each family. A model is a frozen tree of arrays; no model imports another."""
