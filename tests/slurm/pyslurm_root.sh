#!/usr/bin/env bash
# A root directory with a real pyslurm in it: PyPI's, unmodified, and the Slurm of Debian sid that it is built against.
#
#   pyslurm_root.sh path               prints where the root is, or would be
#   pyslurm_root.sh build              makes it, in 4 to 8 minutes; at once when it is there
#   pyslurm_root.sh enter COMMAND...   runs a command in it, in the folder of this checkout
#
# Needs root and Debian, and .venv. Packages come from where this machine's apt and pip take theirs. The root is kept
# in ~/.cache/lading under the name of its recipe; two builds at once are one, and one that was killed leaves
# no root. `enter` has its own mounts, processes and network, on a layer in memory: whatever the command does
# to the root, and whatever it leaves running, is gone when it ends. The checkout and its Python are there under the
# same names as outside; pyslurm has a Python of its own, /opt/pyslurm/bin/python.
set -euo pipefail

PYSLURM=25.11.2
PYSLURM_HASH=sha256:6e0e4bc639ea3177591b102b77c1dd8df55a9e411ac42ef339a4adb3908cca34
PACKAGES=(slurmctld slurmd slurmdbd slurm-client slurm-wlm-mysql-plugin munge libslurm-dev mariadb-server iproute2 procps
    build-essential python3-dev python3-venv python3-setuptools cython3)

say() { printf 'pyslurm_root: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# ---- recipe: what is in the root depends on these functions alone --------------------------------

mirror() { # from which this machine takes its Debian
    local from
    from=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
    [ -n "$from" ] || from=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' /etc/apt/sources.list 2>/dev/null | head -1)
    [ -n "$from" ] || die 'no mirror of Debian in /etc/apt'
    echo "$from"
}

make_base() { # ROOT: a minimal sid
    if ! command -v debootstrap >/dev/null; then
        apt-get -qq -o DPkg::Lock::Timeout=300 update
        apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends debootstrap
    fi
    debootstrap --variant=minbase --include=ca-certificates sid "$1" "$(mirror)"
    cp /etc/apt/apt.conf.d/* "$1/etc/apt/apt.conf.d/"
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    cp /etc/hosts "$1/etc/hosts"
    # No daemon starts at its installation.
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
    mount -t proc proc "$1/proc"
    DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$1" apt-get -qq install -y --no-install-recommends "${PACKAGES[@]}"
    chroot "$1" apt-get clean
}

fetch_pyslurm() { # FOLDER: the source as PyPI has it
    echo "pyslurm==$PYSLURM --hash=$PYSLURM_HASH" >"$1/wanted"
    "$PYTHON" -m pip --disable-pip-version-check download --quiet --no-deps --no-binary :all: --no-build-isolation \
        --require-hashes --requirement "$1/wanted" --dest "$1"
    tar -xzf "$1"/pyslurm-*.tar.gz -C "$1"
}

build_pyslurm() { # inside: against the root's own, later Slurm
    local library
    library=$(find /usr/lib -name libslurmfull.so | head -1)
    mkdir /build/include
    cp -r /usr/include/slurm /build/include/slurm
    # The build refuses any version but its own, by this one line.
    sed -i 's/^#define SLURM_VERSION_NUMBER .*/#define SLURM_VERSION_NUMBER 0x190b02/' /build/include/slurm/slurm_version.h
    # Slurm 26.05 keeps the older arguments of its functions behind a macro; two other names are gone.
    export CFLAGS="-O1 -DSLURM_BACKWARD_COMPAT -Dslurm_free_ctl_conf=slurm_free_conf -DESLURM_ERROR_ON_DESC_TO_RECORD_COPY=SLURM_ERROR"
    export SLURM_INCLUDE_DIR=/build/include PYSLURM_BUILD_JOBS=2
    SLURM_LIB_DIR=$(dirname "$(dirname "$library")")
    export SLURM_LIB_DIR
    "$(readlink -f /usr/bin/python3)" -m venv --system-site-packages --without-pip /opt/pyslurm
    cd /build/source/pyslurm-*/
    python3 setup.py build -j2
    cp -r build/lib.*/pyslurm /opt/pyslurm/lib/python3.*/site-packages/
    cd / && rm -rf /build
    # Without the automatic start it loads where there is no slurm.conf.
    PYSLURM_DISABLE_AUTO_INIT=1 /opt/pyslurm/bin/python -c 'import pyslurm; print(pyslurm.__version__)'
}

# ---- verbs -------------------------------------------------------------------------------------

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CHECKOUT=$(cd "$HERE/../.." && pwd -P)
PYTHON=$CHECKOUT/.venv/bin/python
RECIPE=$({
    declare -p PYSLURM PYSLURM_HASH PACKAGES
    declare -f make_base fetch_pyslurm build_pyslurm
} | sha256sum | cut -c1-12)
CACHE=~/.cache/lading
ROOT=$CACHE/pyslurm-root-$RECIPE

build() {
    [ "$(id -u)" = 0 ] || die 'needs root'
    mkdir -p "$CACHE"
    exec 9>"$CACHE/pyslurm-root.lock"
    flock 9
    [ ! -e "$ROOT" ] || return 0
    say "building $ROOT (log: $ROOT.log)"
    rm -rf --one-file-system "$ROOT.building"
    # Mounts and processes of the build end with it, however it ends.
    unshare --mount --pid --fork --kill-child --propagation private bash "$HERE/pyslurm_root.sh" make "$ROOT.building" >"$ROOT.log" 2>&1 ||
        die "not built; the end of $ROOT.log: $(tail -15 "$ROOT.log")"
    mv "$ROOT.building" "$ROOT"
}

make() { # FOLDER
    umask 022
    mount -t proc proc /proc
    make_base "$1"
    mkdir -p "$1/build/source"
    fetch_pyslurm "$1/build/source"
    LC_ALL=C chroot "$1" bash -c "set -euo pipefail; $(declare -f build_pyslurm); build_pyslurm"
}

enter() { # COMMAND...
    [ -e "$ROOT" ] || die "there is no $ROOT; make it: $0 build"
    # Where the layer is mounted, for those inside alone.
    mkdir -p "$ROOT.layer"
    exec unshare --mount --pid --net --uts --ipc --fork --kill-child --propagation private \
        bash "$HERE/pyslurm_root.sh" inside "$@"
}

inside() {
    local layer=$ROOT.layer root=$ROOT.layer/root path python
    mount -t tmpfs -o mode=755 tmpfs "$layer"
    mkdir "$layer"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$layer/upper,workdir=$layer/work" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    printf '127.0.0.1 localhost %s\n' "$(hostname -s)" >"$root/etc/hosts"
    python=$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
    case $python in
    /usr/bin/*)
        # The machine's own: only what of it is not there already, under the name that .venv has for it.
        path=/usr/lib/$(basename "$python")
        [ -e "$root$python" ] || {
            touch "$root$python"
            mkdir -p "$root$path"
            mount --bind "$python" "$root$python"
            mount --bind "$path" "$root$path"
            ln -sf "$(basename "$python")" "$root/usr/bin/python3"
        }
        ;;
    *) share "$root" "$(dirname "$(dirname "$python")")" ;;
    esac
    share "$root" "$CHECKOUT"
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
    unset SLURM_CONF TMPDIR
    # A shell stays in front: it is the first process here and reaps what daemons leave.
    chroot "$root" bash -c 'ip link set lo up; cd "$0" && "$@"; exit $?' "$CHECKOUT" "$@"
}

share() { # ROOT PATH
    mkdir -p "$1$2"
    mount --rbind "$2" "$1$2"
}

# Read as a whole before anything of it runs: the file may be changed meanwhile.
{
    VERB=${1:-}
    shift || true
    case $VERB in
    path) echo "$ROOT" ;;
    build | make | enter | inside) "$VERB" "$@" ;;
    *) die 'usage: pyslurm_root.sh path | build | enter COMMAND...' ;;
    esac
    exit
}
