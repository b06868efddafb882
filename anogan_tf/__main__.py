from anogan_tf.commands.cli import main

main()
