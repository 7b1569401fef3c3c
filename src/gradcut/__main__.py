from gradcut.cli import main

main()
