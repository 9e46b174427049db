"""What a user takes away: the folder ``deploy/`` of a run, and ``modelpress predict``."""
