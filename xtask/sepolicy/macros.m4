# SPDX-License-Identifier: Apache-2.0
# The platform's macros that ../../sepolicy calls, reduced to the relevant rules.
define(`r_file_perms', `{ getattr ioctl lock map open read watch watch_reads }')
define(`w_file_perms', `{ append lock map open write }')
define(`rw_file_perms', `{ append getattr ioctl lock map open read watch watch_reads write }')
define(`rx_file_perms', `{ execute execute_no_trans getattr ioctl lock map open read watch watch_reads }')
define(`r_dir_perms', `{ getattr ioctl lock open read search watch watch_reads }')

# Additional rules of debuggable builds; the caller sets the build variant.
define(`userdebug_or_eng', `ifelse(target_build_variant, `userdebug', `$1')')

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
define(`add_service', `
allow $1 $2:service_manager { add find };
neverallow { domain -$1 } $2:service_manager add;
userdebug_or_eng(`allow $1 su:tcp_socket { accept getopt read write };')
')
define(`hal_attribute_service', `
allow $1_client $2:service_manager find;
add_service($1_server, $2)
neverallow { domain -$1_client -$1_server -atrace -shell -system_app -traceur_app } $2:service_manager find;
')
define(`domain_auto_trans', `
allow $1 $2:file { execute getattr map open read };
allow $1 $3:process { noatsecure rlimitinh siginh transition };
allow $3 $2:file { entrypoint execute getattr map open read };
type_transition $1 $2:process $3;
')
define(`init_daemon_domain', `domain_auto_trans(init, $1_exec, $1)')
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
