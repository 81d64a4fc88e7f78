from ..glob import is_glob, literal_count, matches, overlap, resolve, ties

__all__ = ["is_glob", "literal_count", "matches", "overlap", "resolve", "ties"]
