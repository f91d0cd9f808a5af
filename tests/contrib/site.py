"""A Django with users and sessions, in a folder of its own, and Freshet beside it; for a process of its own.

`python -m tests.contrib.site FOLDER SESSION_ENGINE` runs the checks of `test_django.py` there: Django's settings are
for a whole process.
"""

import sys
from pathlib import Path

import django
from django.conf import settings


def set_up(folder: Path, engine: str) -> None:
    settings.configure(
        SECRET_KEY="k" * 50,
        SECRET_KEY_FALLBACKS=["o" * 50],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "site.db"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                "LOCATION": str(folder / "cache"),
            }
        },
        SESSION_ENGINE=engine,
        SESSION_FILE_PATH=str(folder),
        SESSION_COOKIE_NAME="sid",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    set_up(Path(sys.argv[1]), sys.argv[2])
    from tests.contrib.checks import run

    run()
