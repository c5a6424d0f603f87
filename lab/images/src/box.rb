# What every machine of this box needs. Settings of a Vagrantfile come on top.
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.boot_timeout = 600
  config.vm.provider :libvirt do |libvirt|
    # LABCTL_DRIVER is for machines that have a /dev/kvm which does not work.
    libvirt.driver = ENV.fetch("LABCTL_DRIVER") { File.writable?("/dev/kvm") ? "kvm" : "qemu" }
    libvirt.machine_type = "pc"
    libvirt.features = ["acpi"]
    libvirt.graphics_type = "none"
    libvirt.memory = 512
    # A network of its own, from which no way leads out. The box knows the NIC by its slot, far from those that are given out.
    libvirt.management_network_name = "labctl"
    libvirt.management_network_address = "100.127.251.0/24"
    libvirt.management_network_mode = "none"
    libvirt.management_network_pci_bus = "0x00"
    libvirt.management_network_pci_slot = "0x@SLOT@"
  end
  config.vm.provider :virtualbox do |virtualbox|
    virtualbox.memory = 512
    virtualbox.default_nic_type = "virtio"
    virtualbox.check_guest_additions = false
  end
end
