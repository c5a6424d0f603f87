# Runs as root of the machine or of a user namespace, inside mmdebstrap, when all packages are unpacked: $1 is what
# becomes the one layer of a container image. None of the packages' own scripts has run, nor does any here.
set -eu
exec >&2
echo "labctl: layer"
root=$1
cd "$root"
# The users that Debian's packages count on: root, nobody, www-data and the like.
if [ -e usr/share/base-passwd/passwd.master ]; then
    cp usr/share/base-passwd/passwd.master etc/passwd
    cp usr/share/base-passwd/group.master etc/group
fi
# What a container of a lab never reads, and what mmdebstrap itself needed. Conversion tables between character sets
# would be a fifth of a small image.
rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bug usr/share/i18n \
    usr/lib/x86_64-linux-gnu/gconv usr/lib/systemd etc/apt var/lib/apt var/lib/dpkg var/cache etc/resolv.conf \
    etc/hostname
mkdir -p dev etc home proc root run sys tmp var/cache var/lib var/log var/tmp
chmod 1777 tmp var/tmp
ldconfig -r "$root"
