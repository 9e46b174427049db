"""Datasets: what they are (torch-free), how they become tokens and batches."""
