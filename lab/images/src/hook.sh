# Runs as root of the machine or of a user namespace, inside mmdebstrap, when all packages are installed: $1 is the
# root filesystem. Makes three files beside what the image itself holds, which mmdebstrap then hands out:
#   $1.out/vmlinuz  $1.out/modules.tar  $1.out/root.ext4   (moved to $1/.labctl at the end)
# @FROM@ becomes the options that choose where the kernel comes from.
set -eu
exec >&2
root=$1
out=$root/.labctl
mkdir "$out"

echo "labctl: kernel"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir "$out/kernel"
cd "$out/kernel"
# The package linux-image-cloud-amd64 only names the current one, and depends on what makes an initrd.
package=$(apt-cache @FROM@ depends linux-image-cloud-amd64 |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
test -n "$package"
apt-get -q @FROM@ download "$package"
dpkg-deb -x ./*.deb .
version=$(basename ./boot/vmlinuz-* | sed 's/^vmlinuz-//')
mv "boot/vmlinuz-$version" "$out/vmlinuz"
mkdir -p "$root/usr/lib/modules"
if [ -d "lib/modules/$version" ]; then from=lib; else from=usr/lib; fi
mv "$from/modules/$version" "$root/usr/lib/modules/$version"
cd "$root"
rm -r "$out/kernel"
chroot "$root" depmod "$version"
tar -C "$root/usr/lib/modules" -cf "$out/modules.tar" "$version"

# A line that labctl reads.
echo "labctl: docker $(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Version}' docker.io)"

echo "labctl: root image"
# What a lab host never reads.
rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/locale" \
    "$root/usr/share/lintian" "$root/usr/share/bug" "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/*
mkdir -p "$root/var/lib/docker" "$root/var/lib/containerd" "$root/etc/docker"
: > "$root/etc/machine-id"
printf 'localhost\n' > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n' > "$root/etc/hosts"
# Nothing listens there, so that a look-up is refused at once; with no server that answers, dockerd would wait 25 s
# for a registry before it uses an image it already has.
rm -f "$root/etc/resolv.conf"
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > "$root/etc/resolv.conf"

mv "$out" "$root.out"
# Settings of the machine that makes the image: a proxy may hold a password. mmdebstrap removes them at its own end.
mv "$root/etc/apt" "$root.out/apt"
mkdir "$root.view"
# A bind mount shows the filesystem without what mmdebstrap has mounted on it. It is the disk of a read-only layer:
# no journal, no reserve, no checksums to verify.
kib=$(du -sxk "$root" | cut -f 1)
root="$root" unshare --mount sh -euc '
    mount --bind "$root" "$root.view"
    mke2fs -q -F -t ext4 -b 4096 -m 0 -O ^has_journal,^resize_inode,^metadata_csum,^64bit -E root_owner=0:0 \
        -L labctl -d "$root.view" "$root.out/root.ext4" "$1"k
' sh "$((kib * 108 / 100 + 16384))"
rmdir "$root.view"
mv "$root.out/apt" "$root/etc/apt"
# Modules are the vm runtime's: a container shares the kernel of the machine it runs on.
rm -r "$root/usr/lib/modules"
mv "$root.out" "$root/.labctl"
