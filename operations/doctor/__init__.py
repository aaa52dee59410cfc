"""`make doctor`: checks what an installation needs before its first job, and changes nothing.

command_line  its arguments
installation  what the settings say, read as the services read them
checks        one module for each area outside of AWS; AWS is in shared.compute.ec2.doctor
report        lines for operators, JSON for programs, the exit status
"""
