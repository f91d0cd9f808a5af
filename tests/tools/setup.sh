#!/usr/bin/env bash
# Installs what the tests need beside Python packages. Run by `make test` and `make tools`; may be run any number of times.
#
# Without the right to install, it says what is missing: tests that need it are then skipped by name, or fail when
# CI=true. See tests/tools/need.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

# One line each: the command that must be there, and the Debian package that brings it.
SYSTEM=(
    "chromium     chromium"
    "chromedriver chromium-driver"
    "redis-server redis-server"
    "nats-server  nats-server"
    "pg_lsclusters postgresql"
    "faketime     faketime"
    "nginx        nginx-light"
    "haproxy      haproxy"
    "caddy        caddy"
    "prometheus   prometheus"
    "certutil     libnss3-tools"
    "go           golang-go"
    "php          php-cli"
)

install_system_packages() {
    local line command package missing=()
    for line in "${SYSTEM[@]}"; do
        read -r command package <<<"$line"
        command -v "$command" >/dev/null || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "Not installed: ${missing[*]}. As root: apt-get install ${missing[*]}" >&2
        return
    fi
    echo "Installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null; }; then
        echo "apt-get could not install ${missing[*]}; the tests that need them say so" >&2
    fi
}

install_npm_packages() {
    local here=$1 stamp=$1/node_modules/.installed
    if ! command -v npm >/dev/null; then
        echo "Not installed: Node.js with npm; the tests that need it say so" >&2
        return
    fi
    if cmp -s "$here/package-lock.json" "$stamp"; then
        return
    fi
    echo "Installing the npm packages of $here"
    (cd "$here" && npm ci --no-audit --no-fund --loglevel=error)
    cp "$here/package-lock.json" "$stamp"
}

# The tests of the Python client, from the source package of the version that is pinned.
install_suites() {
    local suites=build/suites pinned archive
    pinned=$(awk '/^centrifuge-python==/, !/\\$/' requirements/dev.txt)
    if [ "$pinned" = "$(cat "$suites/pinned" 2>/dev/null)" ]; then
        return
    fi
    echo "Installing the tests of centrifuge-python"
    rm -rf "$suites/centrifuge-python" "$suites"/centrifuge_python-*
    if ! .venv/bin/python -m pip --disable-pip-version-check --quiet download --no-deps --no-binary centrifuge-python \
        --require-hashes --requirement <(echo "$pinned") --dest "$suites"; then
        echo "pip could not download them; the tests that need them say so" >&2
        return
    fi
    archive=$(echo "$suites"/centrifuge_python-*.tar.gz)
    mkdir -p "$suites/centrifuge-python"
    tar -xzf "$archive" -C "$suites/centrifuge-python" --strip-components 1
    echo "$pinned" >"$suites/pinned"
}

install_system_packages
install_suites
install_npm_packages tests/node
install_npm_packages examples/react
install_npm_packages examples/use_chat
install_npm_packages frontend
