"""Runs a program under an OCI seccomp profile, as a container runtime would, but ends it at the first call that the profile
does not allow (a runtime answers EPERM, which a program may survive unseen):

    under_profile.py PROFILE.json PROGRAM [ARGUMENT...]
"""

import ctypes
import json
import os
import sys

KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000

library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_init.argtypes = [ctypes.c_uint32]
library.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
library.seccomp_load.argtypes = [ctypes.c_void_p]


def main():
    with open(sys.argv[1]) as file:
        profile = json.load(file)
    context = library.seccomp_init(KILL_PROCESS)
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                sys.exit(f"libseccomp knows no call {name}")
            # Negative: a call that this architecture does not have.
            if number >= 0 and (error := library.seccomp_rule_add_array(context, ALLOW, number, 0, None)):
                sys.exit(f"{name}: {os.strerror(-error)}")
    if error := library.seccomp_load(context):
        sys.exit(f"the profile could not be loaded: {os.strerror(-error)}")
    os.execv(sys.argv[2], sys.argv[2:])


main()
