"""Imputation errors of our imputer and of others, on hidden cells."""
