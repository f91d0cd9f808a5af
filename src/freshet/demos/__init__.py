"""The demos that `freshet demo` shows: `app` serves their pages and takes their connections."""

from freshet.demos.gallery import app

__all__ = ["app"]
