"""Figures and tables for people. This stage reads files that other stages wrote, never their code."""
