#!/bin/sh
# Installs labctl from its unpacked tarball, or removes it again. Needs no root.
set -eu

usage() {
    cat <<'EOF'
Usage: ./install.sh [--prefix DIR]               install below DIR [default: ~/.local]
       ./install.sh --uninstall [--prefix DIR]   remove what this installed there
EOF
}

fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
# This folder has the names of all installed files and a copy of this script, so that labctl can be removed without the
# tarball.
kept=share/labctl
prefix=${HOME:-}/.local
uninstall=
# This is the installed copy.
if [ -e "$here/installed" ]; then prefix=${here%/"$kept"}; fi
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -gt 1 ] || fail "--prefix wants a folder"; prefix=$2; shift ;;
        --prefix=*) prefix=${1#*=} ;;
        --uninstall) uninstall=yes ;;
        -h | --help) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

# Removes the files that the last installation made, and its folders that are empty then. The list of both goes last of the
# files, so that a removal that is interrupted can be done again.
remove() {
    folders=$(sed -n 's,/$,,p' "$list" | sort -r)
    while read -r file; do
        case $file in */ | "$kept/installed") ;; *) rm -f "$prefix/$file" ;; esac
    done < "$list"
    rm -f "$list"
    for folder in $folders; do rmdir "$prefix/$folder" 2>/dev/null || :; done
}

# Makes a folder below the prefix, and notes those that were not there.
made=
make_folder() {
    if [ -d "$prefix/$1" ]; then return; fi
    case $1 in */*) make_folder "${1%/*}" ;; esac
    mkdir "$prefix/$1"
    made="$made $1/"
}

if [ "$uninstall" ]; then [ -d "$prefix" ] || fail "there is no $prefix"; else mkdir -p "$prefix"; fi
prefix=$(cd "$prefix" && pwd)
list=$prefix/$kept/installed

if [ "$uninstall" ]; then
    [ -e "$list" ] || fail "nothing that this script installed is below $prefix"
    remove
    echo "labctl is removed from $prefix; its labs and images are in ~/.local/state/labctl and ~/.cache/labctl"
    exit
fi

[ -x "$here/bin/labctl" ] || fail "this belongs beside bin/ and share/, as the tarball has it"
for name in labctl labctl-agent; do
    if [ -e "$prefix/bin/$name" ] && ! grep -qsx "bin/$name" "$list"; then
        fail "$prefix/bin/$name is there already, and is not of this script: remove it, or choose another --prefix"
    fi
done
# An older version may have files that this one lacks.
if [ -e "$list" ]; then remove; fi
files=$(cd "$here" && find bin share -type f | sort)
for folder in $(printf '%s\n' $files "$kept/installed" | sed 's,/[^/]*$,,' | sort -u); do make_folder "$folder"; done
# The list is written first, so that an interrupted installation can be removed as well.
printf '%s\n' $made $files "$kept/install.sh" "$kept/installed" > "$list"
for file in $files; do
    mode=644
    case $file in bin/*) mode=755 ;; esac
    install -m "$mode" "$here/$file" "$prefix/$file"
done
install -m 755 "$here/install.sh" "$prefix/$kept/install.sh"

echo "labctl is installed below $prefix; topologies to begin with are in $prefix/share/labctl/topologies"
case :${PATH:-}: in
    *:"$prefix/bin":*) ;;
    *) echo "It is not in your PATH yet. Add this line to ~/.profile: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
echo "Next: \`labctl doctor\` says what this machine can do, and what is missing."
echo "To remove it: $prefix/$kept/install.sh --uninstall"
