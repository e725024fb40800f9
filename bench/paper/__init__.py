"""The paper's experiments: every table and figure of its appendix."""
