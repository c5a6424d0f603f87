# Runs as root of the machine or of a user namespace, inside mmdebstrap, when all packages are installed: $1 is the root
# filesystem of a Vagrant box. Leaves a disk that a BIOS boots in $1/.labctl/disk.
# @MIB@ becomes the disk's size, @FORMAT@ what qemu-img is told of its format, @SLOT@ where Vagrant's NIC is, @EXTRA@ further
# commands.
set -eu
exec >&2
root=$1

# A line that labctl reads.
echo "labctl: docker $(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Version}' docker.io)"

echo "labctl: settings"
# What Vagrant expects: https://developer.hashicorp.com/vagrant/docs/boxes/base. It replaces this key, which everybody has, at
# the first start.
chroot "$root" useradd --create-home --shell /bin/bash vagrant
printf 'vagrant ALL=(ALL) NOPASSWD: ALL\n' > "$root/etc/sudoers.d/vagrant"
chmod 0440 "$root/etc/sudoers.d/vagrant"
mkdir -m 0700 "$root/home/vagrant/.ssh"
printf '%s\n' "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key" \
    > "$root/home/vagrant/.ssh/authorized_keys"
chmod 0600 "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant
# Each machine has host keys of its own.
rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/etc/systemd/system/ssh.service.d"
printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' \
    > "$root/etc/systemd/system/ssh.service.d/keys.conf"
printf 'UseDNS no\n' > "$root/etc/ssh/sshd_config.d/labctl.conf"

# Vagrant's own NIC is the one in PCI slot @SLOT@, for management only: no default route, no name server. All others are a lab's,
# and only the agent touches them.
printf '[Match]\nPath=pci-0000:00:@SLOT@.0 virtio-pci-0000:00:@SLOT@.0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\nUseRoutes=no\nUseGateway=no\nUseDNS=no\nUseNTP=no\nUseHostname=no\nClientIdentifier=mac\n' \
    > "$root/etc/systemd/network/10-management.network"
printf '[Match]\nType=ether\n[Link]\nUnmanaged=yes\n' > "$root/etc/systemd/network/20-lab.network"
chroot "$root" systemctl enable systemd-networkd.service ssh.service
# A lab starts its own dockerd. Nothing else may wake it, or anything that wants the internet.
chroot "$root" systemctl mask docker.service docker.socket containerd.service systemd-networkd-wait-online.service \
    apt-daily.timer apt-daily-upgrade.timer
chroot "$root" systemctl set-default multi-user.target
@EXTRA@
: > "$root/etc/machine-id"
printf 'labctl\n' > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\tlabctl\n' > "$root/etc/hosts"
printf 'LABEL=labctl / ext4 defaults,noatime 0 1\n' > "$root/etc/fstab"
# Nothing listens there, so that a look-up is refused at once; else dockerd waits 25 s for a registry before it uses an image
# that it has.
rm -f "$root/etc/resolv.conf"
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > "$root/etc/resolv.conf"

echo "labctl: disk"
kernel=$(basename "$root"/boot/vmlinuz-* | sed 's/^vmlinuz-//')
mkdir -p "$root/boot/grub" "$root/.labctl"
printf 'linux /boot/vmlinuz-%s root=LABEL=labctl ro quiet console=tty0 console=ttyS0,115200\ninitrd /boot/initrd.img-%s\nboot\n' \
    "$kernel" "$kernel" > "$root/boot/grub/grub.cfg"
chroot "$root" grub-mkimage --format=i386-pc --prefix='(hd0,msdos1)/boot/grub' --output=/.labctl/core.img \
    biosdisk part_msdos ext2 normal configfile linux boot
out=$root.out
mv "$root/.labctl" "$out"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$out/boot.img"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/*
# Settings of the machine that makes the image: a proxy may hold a password. mmdebstrap removes them at its own end.
mv "$root/etc/apt" "$out/apt"
mkdir "$root/etc/apt" "$root.view"

# The first MiB: boot sector, partition table, GRUB's core, which the boot sector reads from the second sector on. Then one
# partition, without what GRUB does not read.
mib=@MIB@
truncate -s "${mib}M" "$out/disk.raw"
root="$root" out="$out" unshare --mount sh -euc '
    mount --bind "$root" "$root.view"
    mke2fs -q -F -t ext4 -b 4096 -m 1 -L labctl -E root_owner=0:0,offset=1048576 \
        -O none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize \
        -d "$root.view" "$out/disk.raw" "$1"k
' sh "$(((mib - 1) * 1024))"
echo "labctl: packing"
dd if="$out/boot.img" of="$out/disk.raw" bs=440 count=1 conv=notrunc status=none
sectors=$(((mib - 1) * 2048))
octal() { printf '\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
printf "\\200\\376\\377\\377\\203\\376\\377\\377$(octal 2048)$(octal "$sectors")" |
    dd of="$out/disk.raw" bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of="$out/disk.raw" bs=1 seek=510 conv=notrunc status=none
dd if="$out/core.img" of="$out/disk.raw" bs=512 seek=1 conv=notrunc status=none
rmdir "$root.view" "$root/etc/apt"
mv "$out/apt" "$root/etc/apt"
qemu-img convert @FORMAT@ "$out/disk.raw" "$out/disk"
rm "$out/core.img" "$out/boot.img" "$out/disk.raw"
mv "$out" "$root/.labctl"
