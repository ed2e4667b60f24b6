"""`python -m panelhue` is the `panelhue` command."""

from panelhue.cli import app

if __name__ == "__main__":
    app()
