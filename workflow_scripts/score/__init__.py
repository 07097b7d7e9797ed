"""Scoring: result files in, the benchmark toolkits' numbers out. No MATLAB, one pass, every oddity counted."""
