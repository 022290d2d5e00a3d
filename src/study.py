"""`python -m src.study`, as `python -m studies.head_study` was called before."""

import runpy

if __name__ == "__main__":
    runpy.run_module("studies.head_study", run_name="__main__", alter_sys=True)
