# SPDX-License-Identifier: Apache-2.0
# The platform's macros that ../../sepolicy calls, with what matters of their meaning.
define(`r_file_perms', `{ getattr ioctl lock map open read watch watch_reads }')
define(`w_file_perms', `{ append lock map open write }')
define(`rw_file_perms', `{ append getattr ioctl lock map open read watch watch_reads write }')
define(`r_dir_perms', `{ getattr ioctl lock open read search watch watch_reads }')

define(`hal_attribute', `
attribute hal_$1;
attribute hal_$1_client;
attribute hal_$1_server;
')
define(`hal_server_domain', `
typeattribute $1 halserverdomain;
typeattribute $1 $2_server;
typeattribute $1 $2;
')
define(`hal_client_domain', `
typeattribute $1 halclientdomain;
typeattribute $1 $2_client;
')
define(`binder_use', `
allow $1 servicemanager:binder { call transfer };
allow servicemanager $1:binder { call transfer };
')
define(`binder_call', `
allow $1 $2:binder { call transfer };
allow $2 $1:binder transfer;
allow $1 $2:fd use;
')
define(`hal_attribute_service', `
allow $1_client $2:service_manager find;
allow $1_server $2:service_manager { add find };
neverallow { domain -$1_server } $2:service_manager add;
neverallow { domain -$1_client -$1_server } $2:service_manager find;
')
define(`init_daemon_domain', `
allow init $1_exec:file { execute getattr map open read };
allow init $1:process { noatsecure rlimitinh siginh transition };
allow $1 $1_exec:file { entrypoint execute getattr map open read };
type_transition init $1_exec:process $1;
')
define(`tmpfs_domain', `
type_transition $1 tmpfs:file $1_tmpfs;
allow $1 $1_tmpfs:file { getattr map read write };
')
define(`get_prop', `allow $1 $2:file { getattr map open read };')
define(`vendor_internal_prop', `
type $1, property_type;
neverallow coredomain $1:file { open read write };
')
define(`dump_hal', `
hal_client_domain(dumpstate, $1)
allow $1_server dumpstate:fd use;
allow $1_server dumpstate:fifo_file write;
')
