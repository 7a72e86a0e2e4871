"""Runs a program under an OCI seccomp profile, as a container runtime would, but ends it at the first call that the profile
does not name (a runtime answers EPERM, which a program may survive unseen):

    under_profile.py PROFILE.json PROGRAM [ARGUMENT...]
"""

import ctypes
import json
import os
import sys

KILL_PROCESS = 0x80000000
ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000}
COMPARISONS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp."""

    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("value", ctypes.c_uint64), ("value_two", ctypes.c_uint64)]


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
        action = ACTIONS[rule["action"]] | rule.get("errnoRet", 0)
        wanted = [Comparison(a["index"], COMPARISONS[a["op"]], a["value"], a.get("valueTwo", 0)) for a in rule.get("args", [])]
        arguments = (Comparison * len(wanted))(*wanted)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                sys.exit(f"libseccomp knows no call {name}")
            # Negative: a call that this architecture does not have.
            if number >= 0 and (error := library.seccomp_rule_add_array(context, action, number, len(wanted), arguments)):
                sys.exit(f"{name}: {os.strerror(-error)}")
    if error := library.seccomp_load(context):
        sys.exit(f"the profile could not be loaded: {os.strerror(-error)}")
    os.execv(sys.argv[2], sys.argv[2:])


main()
